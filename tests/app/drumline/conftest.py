import pytest
from django_celery_beat.models import PeriodicTask


@pytest.fixture(autouse=True)
def _no_schedule_of_the_application(request):
    """Take out the entries that the application's migrations made."""
    if request.node.get_closest_marker("django_db"):
        request.getfixturevalue("db")
        PeriodicTask.objects.all().delete()
