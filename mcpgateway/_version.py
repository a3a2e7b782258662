"""The version, in the one place that the build and the code read."""

VERSION = "0.1.0"
