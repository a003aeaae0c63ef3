"""What flawmap makes of awkward files and folders: outcomes of two versions side by side."""
