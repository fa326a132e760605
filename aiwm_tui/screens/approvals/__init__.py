"""Approvals: what agents ask for and only a person may allow."""
