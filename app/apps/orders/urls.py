"""Paths under /api/orders/."""

from django.urls import path

from apps.orders.api import OrdersView, OrderView, PayView, ShipView

urlpatterns = [
    path("", OrdersView.as_view(), name="orders"),
    path("<int:pk>/", OrderView.as_view(), name="order"),
    path("<int:pk>/pay/", PayView.as_view(), name="order-pay"),
    path("<int:pk>/ship/", ShipView.as_view(), name="order-ship"),
]
