"""The simulators that the paper compares its own with (Table 3), written from their publications."""
