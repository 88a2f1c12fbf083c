"""From dataset dicts to model inputs."""
