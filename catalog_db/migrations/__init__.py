"""Numbered SQL migrations `NNNN_name.sql` of the tables, applied in order, then `views.sql`.

All in one transaction.
"""
