"""Networks: the ViT encoder and its weights, the projection head with prototypes, the detection heads."""
