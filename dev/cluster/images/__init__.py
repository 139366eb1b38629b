"""The images of this repository: when they change, how they are built, where their layers are."""
