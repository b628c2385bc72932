"""Searches in the world of session tests, and what became of them."""

import re

ROWS = "SELECT id AS x, truth, book FROM numbers"


def many(session, count=40):
    """A model of many variants, the accuracies of which rise from 0.5 to 1."""
    session.sql("CREATE MODEL many (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y)")
    values = ", ".join(f"{0.5 + 0.5 * at / count:.4f}" for at in range(count))
    session.sql(
        "CREATE VARIANT many.v USING python('session_world:guess', seconds := 0.002) "
        f"KNOBS (accuracy IN ({values}))"
    )


def search(session, subject, slo, more=""):
    return session.sql(
        f"ANALYZE {subject} USING ({ROWS}) LABELS ({'z' if 'answer' in subject else 'y'} := truth) "
        f"SAMPLE 400 {more} SEARCH WITH SLO {slo}"
    )


def measured(session, subject):
    """The choices of a model that were timed."""
    return {
        (o.variant, o.knobs)
        for o in session.catalog.observations({subject})
        if o.metric == "latency"
    }


def named(message):
    """The plan that an ANALYZE … SEARCH names, as advice."""
    return re.search(r"best plan: (.*?): ", message)[1]
