"""How the controller packs a project into an artefact.

The modules name each other in full: Mitogen finds what to bring along by that prefix.
"""
