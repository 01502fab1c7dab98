"""Orders under /api/orders/. A customer sees the own ones; what takes time is a task, and the answer is 202."""

from typing import Any

from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import generics, pagination, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.api.callers import caller
from apps.api.permissions import StaffMay
from apps.api.problems import JSON_BODY, SIGNED_IN, ConflictError, responses
from apps.orders import selectors, services
from apps.orders.models import MOST, Order
from apps.products.models import Product
from apps.products.money import CURRENCIES, money_parse


class OrderCreateSerializer(serializers.Serializer[Any]):
    """What is ordered, and for how much: the total that the customer was shown."""

    sku = serializers.SlugRelatedField(slug_field="sku", queryset=Product.objects.all(), source="product")
    quantity = serializers.IntegerField(min_value=1, max_value=MOST)
    total = serializers.CharField(max_length=20, help_text="Decimal text in the currency: 39.98")
    currency = serializers.ChoiceField(choices=list(CURRENCIES))

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Read the total, which depends on the currency."""
        try:
            attrs["total"] = money_parse(attrs["total"], attrs["currency"])
        except ValueError as error:
            raise serializers.ValidationError({"total": str(error)}) from None
        return attrs


class OrderSerializer(serializers.ModelSerializer[Order]):
    """What a customer is told of an order."""

    sku = serializers.CharField(source="product.sku")
    total = serializers.CharField(source="total_text")

    class Meta:
        model = Order
        fields = (
            *("id", "sku", "quantity", "total", "currency", "status", "failure"),
            *("created_at", "paid_at", "shipped_at"),
        )
        read_only_fields = fields


class PaySerializer(serializers.Serializer[Any]):
    """What the customer pays with."""

    # Not echoed when it is refused: people paste card numbers.
    payment_method = serializers.RegexField(
        r"^pm_[A-Za-z0-9_]+\Z", max_length=100, help_text="The payment provider's id: pm_…"
    )


class NewestFirst(pagination.CursorPagination):
    """Pages that stay as they are while orders are added."""

    ordering = "-pk"
    page_size = 50


class OrdersView(generics.ListAPIView[Order]):
    """The customer's orders."""

    serializer_class = OrderSerializer
    pagination_class = NewestFirst
    queryset = Order.objects.none()

    @property
    def throttle_scope(self) -> str:
        """Reading and creating have limits of their own."""
        return "orders.create" if self.request.method == "POST" else "orders.read"

    def get_queryset(self) -> Any:
        """Return the customer's own."""
        return selectors.orders_of(customer=caller(self.request))

    @extend_schema(responses={200: OrderSerializer(many=True), **responses(SIGNED_IN)})
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """List the own orders, newest first."""
        return super().get(request, *args, **kwargs)

    @extend_schema(
        request=OrderCreateSerializer,
        responses={
            201: OrderSerializer,
            **responses({**JSON_BODY, **SIGNED_IN, 409: "it costs something else by now"}),
        },
    )
    def post(self, request: Request) -> Response:
        """Create an order; nothing is charged before it is paid."""
        serializer = OrderCreateSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        try:
            order = services.order_create(customer=caller(request), **serializer.validated_data)
        except services.PriceChangedError:
            raise ConflictError({"total": ["The price is another one by now."]}, code="price_changed") from None
        return Response(OrderSerializer(order).data, status=status.HTTP_201_CREATED)


class OrderView(generics.RetrieveAPIView[Order]):
    """One of the customer's orders."""

    serializer_class = OrderSerializer
    throttle_scope = "orders.read"
    queryset = Order.objects.none()

    def get_queryset(self) -> Any:
        """Return the customer's own: somebody else's does not exist."""
        return selectors.orders_of(customer=caller(self.request))

    @extend_schema(responses={200: OrderSerializer, **responses({**SIGNED_IN, 404: "there is no such order"})})
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Say how far an order is."""
        return super().get(request, *args, **kwargs)


class PayView(APIView):
    """Paying an order."""

    throttle_scope = "orders.pay"

    @extend_schema(
        request=PaySerializer,
        responses={
            202: OrderSerializer,
            **responses({**JSON_BODY, **SIGNED_IN, 404: "there is no such order", 409: "it is paid, or being paid"}),
        },
    )
    def post(self, request: Request, pk: int) -> Response:
        """Have the card charged; the order's status says what became of it."""
        order = selectors.orders_of(customer=caller(request)).filter(pk=pk).first()
        if order is None:
            raise Http404
        serializer = PaySerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        if not services.order_pay_request(order_id=order.pk, **serializer.validated_data):
            raise ConflictError({"status": ["The order is paid, or being paid."]}, code="not_payable")
        order.refresh_from_db()
        return Response(OrderSerializer(order).data, status=status.HTTP_202_ACCEPTED)


class ShipView(APIView):
    """Shipping anybody's order."""

    permission_classes = (StaffMay,)
    permission = "orders.ship_order"
    throttle_scope = "orders.ship"

    @extend_schema(
        request=None,
        responses={
            202: OrderSerializer,
            **responses({**SIGNED_IN, 404: "there is no such order", 409: "it is not paid, or shipped"}),
        },
    )
    def post(self, request: Request, pk: int) -> Response:
        """Have an order marked as shipped. For staff with the permission to ship orders."""
        order = Order.objects.filter(pk=pk).first()
        if order is None:
            raise Http404
        if not services.order_ship_request(order_id=order.pk):
            raise ConflictError({"status": ["The order is not paid, or shipped already."]}, code="not_shippable")
        return Response(OrderSerializer(order).data, status=status.HTTP_202_ACCEPTED)
