"""What a site's requests meet: their id, and the check that lets staff through to Flower."""
