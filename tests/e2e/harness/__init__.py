"""What the end-to-end tests share: the gateway process, a recording backend, raw clients."""
