"""Give the layers that read fewer units weights that make up for those that are gone."""
