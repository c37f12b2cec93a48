"""An agent: a model that calls tools, as a library."""
