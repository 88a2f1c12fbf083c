"""What is published: each format is recognized and converted in a module of its own."""
