"""The recommended method, in the order of docs/method.md; start with fit.py."""
