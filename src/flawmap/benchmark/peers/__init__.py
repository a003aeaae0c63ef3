"""Today's methods, by way of anomalib (extra ``peers``), behind the interface of ``benchmark/method.py``."""
