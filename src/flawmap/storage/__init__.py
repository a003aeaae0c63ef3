"""Places that are not a disk: object stores and the like, by fsspec. Everything else of flawmap knows local files."""
