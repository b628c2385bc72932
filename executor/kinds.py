"""The kinds of backend this version has; light, because planning a query asks for them."""

from __future__ import annotations

KINDS = ("python", "onnx", "sklearn", "replay")

ELSEWHERE = frozenset({"replay"})
"""Kinds that compute nothing on this machine: no counter here sees what their answers took."""

TRANSFORMS: dict[str, dict[str, tuple[str, ...]]] = {
    "onnx": {"quantize": ("int8", "fp16"), "prune": (), "reduce": ()},
    "sklearn": {"quantize": ("int8", "fp16"), "prune": (), "reduce": ()},
}
"""What can be done to the artefacts of a kind; of QUANTIZE the formats."""

LEARNING = frozenset({("sklearn", "reduce")})
"""Transforms that learn from sample rows: kind and name."""

LATER = {
    "torch": "torch models come with a later version",
    "transformers": "transformers models come with a later version",
    "vllm": "vLLM comes with a later version, in the extra octans[vllm]",
    "openai": "OpenAI-compatible servers come with a later version",
}
"""Kinds that are declared today and run with a later version, and what brings them."""
