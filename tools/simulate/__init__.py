"""Simulated studies with known truth: how often does each interval that the project prints hold it?"""
