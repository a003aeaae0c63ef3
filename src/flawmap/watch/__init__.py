"""Judge the images of a line as they come: files of a folder or frames of a camera, with a journal and messages."""
