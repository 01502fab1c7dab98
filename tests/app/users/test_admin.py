import pytest
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.urls import reverse

from apps.notifications.services import reminder_schedule
from drumline.models import Announcement

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(client):
    client.force_login(get_user_model().objects.create_superuser("root@example.com", "difference engine no. 2"))
    return client


@pytest.mark.parametrize("model", admin.site._registry, ids=lambda model: model._meta.label)
def test_every_models_list_and_search_open(staff, model):
    page = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    assert staff.get(page).status_code == 200


def test_every_model_of_the_project_has_a_page():
    from django.apps import apps

    ours = {
        model
        for config in apps.get_app_configs()
        if config.name.startswith(("apps.", "drumline"))
        for model in config.get_models()
    }
    # The relay's own list of what it has to announce; each entry lives for a second.
    assert ours - {Announcement} <= set(admin.site._registry)


def test_an_account_is_added_and_changed_by_hand(staff):
    password = "difference engine no. 2"
    answer = staff.post(
        reverse("admin:users_user_add"),
        {"email": "Grace@Example.com", "usable_password": "true", "password1": password, "password2": password},
    )
    assert answer.status_code == 302, answer.context["errors"]
    user = get_user_model().objects.get(email="grace@example.com")
    assert staff.get(reverse("admin:users_user_change", args=[user.pk])).status_code == 200


def test_a_reminder_is_shown_without_its_text_and_changed_by_nobody(staff, user):
    reminder = reminder_schedule(user=user, text="between me and me", in_seconds=60)
    page = staff.get(reverse("admin:notifications_reminder_change", args=[reminder.pk])).content.decode()
    assert "scheduled for" in page
    assert "between me and me" not in page
    assert 'name="_save"' not in page
