"""Work of flawmap on several machines, by Ray; flawmap itself knows no cluster."""
