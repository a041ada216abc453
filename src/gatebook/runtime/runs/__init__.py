"""A run as its callers see and steer it, from any process."""
