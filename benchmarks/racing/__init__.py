"""Races of searches over plans: one race, many of them, and how they are drawn."""
