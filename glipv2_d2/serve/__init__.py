"""`glip serve`: a model behind a web page and a REST interface, for several people at once."""
