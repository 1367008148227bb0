"""Benchmarks: ``python -m bench [SECTION ...]`` prints a table and writes bench/out/SECTION.json."""
