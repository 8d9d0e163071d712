"""Stopping and going on: what a stage writes while it trains, and how it continues from that bit for bit."""
