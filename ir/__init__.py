"""Plans as data: nodes, expressions, estimates, SLOs, the explain tree, and their invariants.

Owns immutability, fingerprints and traversal. Never parses or rewrites SQL, never computes an
estimate or a cost; imports nothing of Octans but `errors`.
"""
