"""Small servers to try a gateway with, over stdio."""
