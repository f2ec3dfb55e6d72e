"""What the conformance tests share: the target, how an API is built there, and the report."""
