"""The problems, a folder a family."""
