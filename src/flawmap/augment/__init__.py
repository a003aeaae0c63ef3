"""What is done to images: multi-crop views, patch masking, and anomalies placed by attention."""
