"""Measurements made elsewhere: files in the published form become a catalog that plans."""

import json
import os
from pathlib import Path

import octans
import pytest
from octans.errors import OctansError
from octans.examples.measured import DATA_SETS
from octans.examples.measured.__main__ import main
from octans.examples.measured.loading import load

REAL = os.environ.get("OCTANS_PUBLIC_DATA")


def write(folder, path, columns, *rows):
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [",".join(columns), *(",".join(str(row.get(c, "")) for c in columns) for row in rows)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def pilot(folder, **changed):
    """One model on one GPU: four users, all answered, and sixty-four, most of them refused."""
    data = DATA_SETS["llm_pilot"]
    summary, gpus, prices = data.files
    good = {
        "model": "org/tiny-1b", "gpu_type": "T4", "n_gpus": 1, "num_users": 4,
        "n_requests": 400, "n_failed": 0, "req_per_s": 2.0,
        **{f"{kind}_ms_p{q}": value * (1 + q / 100) for kind, value in
           (("ttft", 100), ("itl", 20), ("e2e", 1500)) for q in (50, 95, 99)},
    }  # fmt: skip
    bad = good | {"num_users": 64, "n_requests": 100, "n_failed": 300, "req_per_s": 640.0}
    bad |= {f"e2e_ms_p{q}": 10.0 for q in (50, 95, 99)}
    write(folder, summary, data.files[summary], good | changed, bad)
    write(
        folder, gpus, data.files[gpus],
        {"gpu": "1 x T4", "gpu_memory_capacity_gb": 16, "gpu_n_gpus": 1},
    )  # fmt: skip
    write(folder, prices, data.files[prices], {"GPU": "1 x T4", "price": 3.6})
    return folder


def vision(folder):
    data = DATA_SETS["timm_vision"]
    results, *speeds = data.files
    write(
        folder, results, data.files[results],
        {"model": "net_a.one", "img_size": 224, "top1": 80.0, "top5": 95.0},
        {"model": "net_a.two", "img_size": 224, "top1": 70.0, "top5": 90.0},
        {"model": "net_b.one", "img_size": 384, "top1": 85.0, "top5": 97.0},
    )  # fmt: skip
    for path in speeds:
        write(
            folder, path, data.files[path],
            {"model": "net_a", "infer_img_size": 224, "infer_batch_size": 64,
             "infer_samples_per_sec": 640.0},
            {"model": "net_b", "infer_img_size": 224, "infer_batch_size": 64,
             "infer_samples_per_sec": 320.0},
        )  # fmt: skip
    return folder


def variants(folder):
    data = DATA_SETS["operator_variants"]
    for path, columns in data.files.items():
        row = dict.fromkeys(columns, 50.0)
        name = columns[0]
        write(
            folder, path, columns, row | {name: "org/one"},
            row | {name: "org/api"} | ({"RTFx": -1} if "RTFx" in columns else {}),
        )  # fmt: skip
    return folder


def energy(folder):
    data = DATA_SETS["mlenergy_v3"]
    for path, columns in data.files.items():
        row = dict.fromkeys(columns, 2)
        row |= {"model_id": "org/big", "gpu_model": "B200"}
        row |= {"avg_batch_size": 8.2, "avg_output_len": 100.0}
        row |= {"output_throughput_tokens_per_sec": 400.0, "energy_per_request_joules": 30.0}
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = [{name: row[name] for name in columns}] * 2
        file.write_text(json.dumps({"configurations": rows}), encoding="utf-8")
    return folder


def repeats(folder):
    data = DATA_SETS["splitwise_perf"]
    ((path, columns),) = data.files.items()
    row = {
        "model": "llama", "hardware": "a100-80gb", "prompt_size": 512, "batch_size": 2,
        "token_size": 128, "tensor_parallel": 4, "peak_power": 0, "average_power": 0,
        "prompt_time": 50, "token_time": 10,
    }  # fmt: skip
    write(folder, path, columns, *(row | {"e2e_time": 1000 + each} for each in (0, 10, 20, 30, 40)))
    return folder


MADE = {
    "llm_pilot": pilot,
    "timm_vision": vision,
    "operator_variants": variants,
    "mlenergy_v3": energy,
    "splitwise_perf": repeats,
}


@pytest.fixture
def session():
    with octans.connect() as opened:
        yield opened


def imported(session, folder, name):
    return load(session, DATA_SETS[name], folder, lambda text: None)


def numbers(session, where):
    text = (
        f"SELECT value, n, n_failed, source, ci_low, ci_high FROM octans.statistics WHERE {where}"
    )
    (row,) = session.sql(text).fetchall()
    return row


@pytest.mark.parametrize("name", DATA_SETS)
def test_importing_twice_changes_nothing(session, tmp_path, name):
    first = imported(session, MADE[name](tmp_path), name)
    before = session.sql("SELECT count(*) FROM octans.observations").fetchall()
    again = imported(session, tmp_path, name)
    assert first.observations > 0
    assert first.variants > 0
    assert (again.models, again.variants, again.devices, again.observations) == (0, 0, 0, 0)
    assert session.sql("SELECT count(*) FROM octans.observations").fetchall() == before


def test_a_closed_loop_gives_the_mean_and_the_failures(session, tmp_path):
    imported(session, pilot(tmp_path), "llm_pilot")
    mean = numbers(session, "metric = 'latency' AND statistic = 'mean' AND batch = 4")
    assert mean[:4] == (2.0, 400, 0, "modelled")
    p95 = numbers(session, "metric = 'latency' AND statistic = 'p95' AND batch = 4")
    assert p95[0] == pytest.approx(2.925)
    assert p95[1:4] == (400, 0, "measured")
    failed = numbers(session, "metric = 'failure' AND value > 0")
    assert failed[:3] == (0.75, 400, 300)
    (device,) = session.catalog.devices()
    assert (device.name, device.usd_per_hour, device.memory_bytes) == ("t4_x1", 3.6, 16 * 10**9)


@pytest.mark.parametrize("on_error", ["FAIL", "NULL"])
def test_survivors_of_failures_are_not_chosen_however_fast(session, tmp_path, on_error):
    imported(session, pilot(tmp_path), "llm_pilot")
    query = "SELECT generate('a') AS t WITH SLO (latency_p95 <= 5 s) MINIMIZE cost"
    found = session.explain(f"{query} ON ERROR {on_error}")
    assert "concurrency=4" in found.advice
    with pytest.raises(OctansError) as caught:
        session.explain(
            f"SELECT generate('a') AS t WITH SLO (latency_p95 <= 100 ms) ON ERROR {on_error}"
        )
    assert caught.value.code == "OC0312"


def test_accuracy_has_its_images_and_a_speed_its_batch(session, tmp_path):
    imported(session, vision(tmp_path), "timm_vision")
    top1 = numbers(session, "metric = 'quality' AND variant = 'classify_image.net_a_one'")
    assert top1[:2] == (0.8, 50_000)
    seconds = numbers(
        session,
        "metric = 'latency' AND variant = 'classify_image.net_a_two' AND device = 'rtx3090'",
    )
    assert seconds[:4] == (0.1, 0, 0, "measured")
    assert not session.sql(
        "SELECT 1 FROM octans.observations WHERE variant = 'classify_image.net_b_one'"
    ).fetchall(), "another image size was timed"


def test_explain_shows_an_imported_pipeline_with_its_n_and_source(session, tmp_path):
    imported(session, vision(pilot(tmp_path)), "timm_vision")
    imported(session, tmp_path, "llm_pilot")
    session.sql("""
        CREATE PIPELINE describe_image (image BLOB) RETURNS (text VARCHAR) AS
        BEGIN
          seen := classify_image(image);
          RETURN generate('a picture of class ' || seen);
        END;
    """)
    text = session.sql(
        "EXPLAIN SELECT describe_image('x'::BLOB) AS t WITH SLO () MINIMIZE cost"
    ).text
    assert "n = 50,000" in text
    assert "n = 400" in text
    assert "modelled" in text
    assert "n unknown" in text


def test_word_errors_and_speeds_of_recognisers(session, tmp_path):
    imported(session, variants(tmp_path), "operator_variants")
    quality = numbers(session, "variant = 'transcribe.org_one' AND metric = 'quality'")
    assert quality[:2] == (0.5, 0)
    seconds = numbers(session, "variant = 'transcribe.org_one' AND metric = 'latency'")
    assert seconds[0] == pytest.approx(30 / 50)
    assert not session.sql(
        "SELECT 1 FROM octans.observations WHERE metric = 'latency' "
        "AND variant = 'transcribe.org_api'"
    ).fetchall()


def test_energy_is_of_a_call_and_repeated_configurations_are_averaged(session, tmp_path):
    imported(session, energy(tmp_path), "mlenergy_v3")
    assert numbers(session, "subject = 'chat' AND metric = 'energy'")[0] == 8 * 30.0
    assert numbers(session, "subject = 'chat' AND metric = 'latency'")[0] == 8 * 100 / 400


def test_repetitions_give_an_interval(session, tmp_path):
    imported(session, repeats(tmp_path), "splitwise_perf")
    value, n, _, _, low, high = numbers(session, "metric = 'latency'")
    assert (value, n) == (pytest.approx(1.02), 5)
    # t(0.975, 4) = 2.7764, s = 15.811 ms
    assert high - value == pytest.approx(2.7764 * 0.015811 / 5**0.5, rel=1e-3)
    assert value - low == pytest.approx(high - value)


def test_a_device_declared_before_keeps_its_price(session, tmp_path):
    session.sql("CREATE DEVICE rtx3090 (KIND cuda, COUNT 1, PRICE 0.40 USD PER HOUR)")
    added = imported(session, vision(tmp_path), "timm_vision")
    assert added.unpriced == ("i9_10940x", "rtx4090")
    assert session.catalog.device("rtx3090").usd_per_hour == 0.4


def test_an_imported_variant_says_that_it_is_not_here(session, tmp_path):
    imported(session, vision(tmp_path), "timm_vision")
    with pytest.raises(OctansError, match=r"net_a\.\w+ was measured elsewhere"):
        session.sql("SELECT classify_image('x'::BLOB) AS t WITH SLO () MINIMIZE cost").fetchall()


def test_what_is_missing_is_named_with_where_to_get_it(session, tmp_path, capsys):
    assert main([str(tmp_path), ":memory:"]) == 1
    told = capsys.readouterr().err
    assert "OC0450" in told
    assert "github.com/IBM/LLM-performance-prediction" in told
    with pytest.raises(OctansError) as caught:
        imported(session, tmp_path, "splitwise_perf")
    assert caught.value.code == "OC0450"
    assert "github.com/Mutinifni/splitwise-sim" in str(caught.value)


def test_changed_columns_are_named(session, tmp_path):
    pilot(tmp_path)
    file = tmp_path / "llm_pilot" / "summary_by_config.csv"
    file.write_text(file.read_text().replace("req_per_s", "requests_per_second"))
    with pytest.raises(OctansError, match="req_per_s") as caught:
        imported(session, tmp_path, "llm_pilot")
    assert caught.value.code == "OC0451"
    energy(tmp_path)
    (tmp_path / "mlenergy_v3/tasks/gpqa.json").write_text('{"rows": []}')
    with pytest.raises(OctansError) as caught:
        imported(session, tmp_path, "mlenergy_v3")
    assert caught.value.code == "OC0451"


def test_another_model_of_the_name_is_refused(session, tmp_path):
    session.sql("CREATE MODEL generate (n INTEGER) RETURNS (m INTEGER)")
    with pytest.raises(OctansError) as caught:
        imported(session, pilot(tmp_path), "llm_pilot")
    assert caught.value.code == "OC0452"


def test_the_command_imports_what_is_there(tmp_path, capsys):
    catalog = tmp_path / "made.duckdb"
    vision(pilot(tmp_path / "data"))
    assert main([str(tmp_path / "data"), str(catalog), "--only", "llm_pilot"]) == 0
    assert main([str(tmp_path / "data"), str(catalog)]) == 0
    told = capsys.readouterr().out
    assert "llm_pilot: 1 models, 1 variants, 1 devices" in told
    assert "llm_pilot: 0 models" in told
    assert "no price is published of i9_10940x" in told
    with octans.connect(catalog) as session:
        assert {model.name for model in session.catalog.models()} == {"generate", "classify_image"}


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="OCTANS_PUBLIC_DATA names no folder of public data sets")
@pytest.mark.parametrize("name", ["llm_pilot", "operator_variants", "splitwise_perf"])
def test_the_published_files_import_and_plan(session, name):
    added = imported(session, Path(REAL), name)
    assert added.observations > 300
    again = imported(session, Path(REAL), name)
    assert (again.variants, again.observations) == (0, 0)
    model = session.catalog.models()[0].name
    text = session.sql(f"EXPLAIN SELECT {model}('a') AS x WITH SLO () MINIMIZE cost").text
    assert f"{model}." in text
