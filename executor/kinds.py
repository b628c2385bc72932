"""The kinds of backend this version has; light, because planning a query asks for them."""

from __future__ import annotations

KINDS = ("python", "onnx", "sklearn", "replay")

ELSEWHERE = frozenset({"replay"})
"""Kinds that compute nothing on this machine: no counter here sees what their answers took."""

LATER = {
    "torch": "torch models come with a later version",
    "transformers": "transformers models come with a later version",
    "vllm": "vLLM comes with a later version, in the extra octans[vllm]",
    "openai": "OpenAI-compatible servers come with a later version",
}
"""Kinds that are declared today and run with a later version, and what brings them."""
