"""The rewrite rules in their order; each keeps exactly the rows a query gives.

First filters sink, which makes every later step smaller; then sorts and limits; then equal calls
become one and what nobody reads goes; last, where statistics say it pays, equal inputs are called
once, which shares nodes and so ends most other rewriting.

A rule is a function `rule(node, ctx) -> Iterator[LogicalNode]`: yielding is a rewrite, yielding
nothing keeps the node. Registered only here; `planner.rewrite` applies them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ...ir.logical import LogicalNode
from .context import RuleContext, StepStatistics
from .deduplicate_inputs import deduplicate_inputs
from .merge_equal_calls import merge_equal_calls
from .order_filters import order_filters
from .prune_calls import prune_calls
from .prune_columns import prune_columns
from .prune_outputs import prune_outputs
from .push_apply_below_lookup import push_apply_below_lookup
from .push_filter_below_apply import push_filter_below_apply
from .push_filter_below_join import push_filter_below_join
from .push_filter_below_project import push_filter_below_project
from .push_filter_below_sort import push_filter_below_sort
from .push_filter_into_source import push_filter_into_source
from .push_join_below_apply import push_join_below_apply
from .push_limit_below_apply import push_limit_below_apply
from .push_limit_below_project import push_limit_below_project
from .push_limit_into_source import push_limit_into_source
from .push_project_below_apply import push_project_below_apply
from .push_sort_below_apply import push_sort_below_apply
from .push_sort_into_source import push_sort_into_source

Rule = Callable[[LogicalNode, RuleContext], Iterator[LogicalNode]]

RULES: tuple[Rule, ...] = (
    merge_equal_calls,
    push_filter_below_project,
    push_project_below_apply,
    push_filter_below_apply,
    push_filter_below_sort,
    push_filter_below_join,
    push_join_below_apply,
    push_filter_into_source,
    order_filters,
    push_sort_below_apply,
    push_sort_into_source,
    push_limit_below_project,
    push_limit_below_apply,
    push_limit_into_source,
    prune_calls,
    prune_outputs,
    prune_columns,
    push_apply_below_lookup,
    deduplicate_inputs,
)

RULE_NAMES = tuple(rule.__name__ for rule in RULES)
"""What `SET disabled_rules` may name."""

__all__ = ["RULES", "RULE_NAMES", "Rule", "RuleContext", "StepStatistics"]
