"""The methods of the paper's tables, small and faithful, behind the interface of ``benchmark/method.py``."""
