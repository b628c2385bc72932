"""Numbered SQL migrations `NNNN_name.sql`, applied in order, all in one transaction."""
