"""Bring a hundred thousand requests to an end: on one machine or many, killed at any moment."""
