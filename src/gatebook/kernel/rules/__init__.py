"""The policy language: a closed TOML file becomes structs, and structs decide about requests.

Text in, structs out: reading files, asking people and waiting are the caller's.
"""
