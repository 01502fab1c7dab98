from django.db import migrations


class Migration(migrations.Migration):
    # 0003 moved to drumline.beat.
    dependencies = [("drumline", "0002_ledger")]

    operations = [
        migrations.AlterModelOptions(
            name="worker",
            options={"permissions": (("operate_flower", "Can operate workers with Flower"),)},
        ),
    ]
