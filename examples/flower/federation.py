"""The apps that `flwr run` starts: the same clients and rounds as on the local engine."""

from cwmp.fl.engines.flower_app import client_app
from cwmp.fl.engines.flower_main import server_app

client = client_app()
server = server_app()
