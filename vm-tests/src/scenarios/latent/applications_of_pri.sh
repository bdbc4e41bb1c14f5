# What an operator configures on PRI: three applications behind nginx. The secondary gets them with the cycles.
set -eu

# In Python, with a unit and an account of its own.
mkdir -p /opt/orders
cat > /opt/orders/orders.py <<'END'
import http.server
import os

DATA = os.environ["ORDERS_DATA"]


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            with open(DATA + "/asked", "a") as asked:
                asked.write(".")
            with open(DATA + "/count") as count:
                status, text = 200, "orders: " + count.read()
        except OSError as error:
            status, text = 500, str(error)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *words):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", 5000), Page).serve_forever()
END
echo 'ORDERS_DATA=/unbound/orders' > /etc/default/orders
cat > /etc/systemd/system/orders.service <<'END'
[Unit]
Description=The bakery's orders
RequiresMountsFor=/unbound

[Service]
User=orders
EnvironmentFile=/etc/default/orders
WorkingDirectory=/unbound/orders
ExecStart=/usr/bin/python3 /opt/orders/orders.py

[Install]
WantedBy=multi-user.target
END

# In PHP, with sessions.
mkdir -p /srv/shop
cat > /srv/shop/index.php <<'END'
<?php
if (!session_start()) { http_response_code(500); die("no session can be kept\n"); }
echo "the shop is open\n";
END
echo '<p>the shop: <a href="index.php">enter</a>' > /srv/shop/index.html

# In a container.
cat > /etc/systemd/system/shelf.service <<'END'
[Unit]
Description=The bakery's shelf
RequiresMountsFor=/unbound

[Service]
ExecStart=/usr/bin/systemd-nspawn --quiet --keep-unit --register=no --as-pid2 --directory=/var/lib/machines/shelf --bind-ro=/unbound/shelf:/www /bin/busybox httpd -f -p 5001 -h /www
KillMode=mixed

[Install]
WantedBy=multi-user.target
END

cat > /etc/nginx/conf.d/applications.conf <<'END'
server {
    listen 8081;
    location / { proxy_pass http://127.0.0.1:5000; proxy_read_timeout 5s; }
}
server {
    listen 8082;
    root /srv/shop;
    location ~ \.php$ { include fastcgi_params; fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name; fastcgi_pass unix:/run/php/php8.2-fpm.sock; }
}
server {
    listen 8083;
    location / { proxy_pass http://127.0.0.1:5001; proxy_read_timeout 5s; }
}
END

echo '17 4 * * * root /usr/local/bin/bake' > /etc/cron.d/bakery
printf '#!/bin/sh\nlogger baked\n' > /usr/local/bin/bake
chmod 755 /usr/local/bin/bake

list=/unbound/SID_DATA/PRI/Env1/SyncFilePathsSpecial
printf '%s\n' /etc/passwd /etc/group /etc/shadow /etc/gshadow /opt/orders /etc/default/orders /etc/systemd/system/orders.service /etc/systemd/system/shelf.service \
    /srv/shop /etc/php /etc/cron.d /usr/local/bin/bake >> $list
