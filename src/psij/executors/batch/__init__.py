"""Executors that speak to a batch scheduler by its commands, and what others need to write theirs."""
