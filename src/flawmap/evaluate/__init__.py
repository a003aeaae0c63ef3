"""One trained detector against one labelled data set."""
