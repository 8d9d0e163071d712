"""Protein thermostability: sequences (or structures) to a class of growth temperature or a melting temperature."""
