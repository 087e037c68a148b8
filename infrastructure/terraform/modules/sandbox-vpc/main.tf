# ecs-updater, sandbox: a VPC to try the project in. Two public subnets and no NAT gateway, so that it costs nothing by
# itself. The same resources as infrastructure/cloudformation/sandbox-vpc.yaml.

data "aws_availability_zones" "available" {
  state = "available"

  # No local zones that somebody opted in to.
  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

locals {
  # By this tag, everything that Terraform made of ecs-updater is found, as in the first version.
  made_here = merge(var.tags, { ecs-updater-terraform = "ecs-updater-sandbox-vpc" })

  tags = merge(local.made_here, { Name = var.name })
  # From the VPC's size to a subnet's 256 addresses.
  new_bits = 24 - tonumber(split("/", var.vpc_cidr)[1])
}

resource "aws_vpc" "vpc" {
  cidr_block           = var.vpc_cidr
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = local.tags
}

resource "aws_internet_gateway" "internet_gateway" {
  tags = local.tags
}

resource "aws_internet_gateway_attachment" "gateway_attachment" {
  vpc_id              = aws_vpc.vpc.id
  internet_gateway_id = aws_internet_gateway.internet_gateway.id
}

# Nothing gets a public address by itself: the dummy service asks for one, because without a NAT gateway it could
# not pull its image otherwise.
resource "aws_subnet" "first_subnet" {
  vpc_id                  = aws_vpc.vpc.id
  availability_zone       = data.aws_availability_zones.available.names[0]
  cidr_block              = cidrsubnet(var.vpc_cidr, local.new_bits, 0)
  map_public_ip_on_launch = false
  tags                    = merge(local.made_here, { Name = "${var.name}-1" })
}

resource "aws_subnet" "second_subnet" {
  vpc_id                  = aws_vpc.vpc.id
  availability_zone       = data.aws_availability_zones.available.names[1]
  cidr_block              = cidrsubnet(var.vpc_cidr, local.new_bits, 1)
  map_public_ip_on_launch = false
  tags                    = merge(local.made_here, { Name = "${var.name}-2" })
}

resource "aws_route_table" "route_table" {
  vpc_id = aws_vpc.vpc.id
  tags   = local.tags
}

resource "aws_route" "route_to_internet" {
  route_table_id         = aws_route_table.route_table.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.internet_gateway.id

  depends_on = [aws_internet_gateway_attachment.gateway_attachment]
}

resource "aws_route_table_association" "first_subnet_routes" {
  subnet_id      = aws_subnet.first_subnet.id
  route_table_id = aws_route_table.route_table.id
}

resource "aws_route_table_association" "second_subnet_routes" {
  subnet_id      = aws_subnet.second_subnet.id
  route_table_id = aws_route_table.route_table.id
}

# Out to registries and to CloudWatch Logs; nobody in.
resource "aws_security_group" "security_group" {
  name_prefix = "${var.name}-"
  description = "Tasks of the sandbox. Out by HTTPS, nothing in."
  vpc_id      = aws_vpc.vpc.id
  tags        = local.tags

  egress {
    description = "Registries and CloudWatch Logs"
    protocol    = "tcp"
    from_port   = 443
    to_port     = 443
    cidr_blocks = ["0.0.0.0/0"]
  }
}
