"""The recommended method, in the order of docs/method.md. Start with ``fit.py``."""
