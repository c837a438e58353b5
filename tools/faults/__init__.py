"""What tries to lose results: random kills of real studies, and a power cut under the code that writes files."""
