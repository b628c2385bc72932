"""Instances that follow from a seed, and runners that replay them on a virtual clock."""
