"""Images in: files, data set layouts, splits. What training may see and what only evaluation may see."""
