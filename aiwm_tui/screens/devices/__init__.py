"""The devices that models lie on."""
