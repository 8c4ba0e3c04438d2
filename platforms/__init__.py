"""The catalogue: the platforms that are asked, as data, and the types that make it safe."""
