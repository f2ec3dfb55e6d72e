"""No pages: the package serves one WebSocket and nothing else."""

urlpatterns = []
